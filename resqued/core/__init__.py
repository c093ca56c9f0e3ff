"""The arbiter's decisions: pure functions of state, event and now that return actions.

Nothing here calls the kernel, reads a clock or runs a hook. The shell (`resqued.arbiter`) turns
what happens into events, and executes the actions.
"""
