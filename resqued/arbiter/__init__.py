"""The arbiter: the loop, the effects, and the view for hooks. Decisions are in `resqued.core`."""
