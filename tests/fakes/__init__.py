"""Stand-ins for libraries that the example plugins use and that are not installed here.

Each has the names that the examples use, and writes what is asked of it into the file that the
variable FAKES names. This folder is put on the path of modules.
"""
