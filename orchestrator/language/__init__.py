"""Reading the written form: text with positions, its shape, and expressions. `loader` and `expression` are the way in."""
