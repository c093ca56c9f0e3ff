"""The command `resquedctl`."""
