"""Settings: what there is to set, where values come from, and what is wrong with them."""
