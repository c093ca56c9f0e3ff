"""Plugins: found, checked, registered, and their hooks called so that none harms its caller."""
