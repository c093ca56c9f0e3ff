"""`resquedctl why`: from facts that were collected to one story in plain words. Pure."""
