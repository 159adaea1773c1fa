"""The pages: server-rendered, no script, nothing from elsewhere."""
