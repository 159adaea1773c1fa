"""The crash-point sweep: a process dies, or a call fails, at every boundary that the engine crosses.

`spy` finds the boundaries, `shapes` are the small workflows, `flight` flies one of them in one thread of one process,
`ground` has the servers and the processes that die, `outcome` judges what is left, and `campaign` goes through them all.
"""
