"""The control socket: what is sent over it, where it lies, and the command `resquedctl`."""
