"""The classes that a user may name: found, checked, and given a slot to work in."""
