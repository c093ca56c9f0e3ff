"""What the tests stand on: a real server, the installed command, and ways to look at both."""
