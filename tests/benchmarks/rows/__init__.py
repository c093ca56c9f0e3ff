"""Each module measures some rows of the table: `measure(bench)`."""
