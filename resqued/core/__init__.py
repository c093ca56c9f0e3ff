"""The arbiter's decisions: pure functions of state, event and now that return actions.

Nothing here calls the kernel, reads a clock or runs a hook. The rim (`resqued.arbiter`) turns
what happens into events, and carries the actions out.
"""
