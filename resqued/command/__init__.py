"""What the command shows without starting anything: the plan, the status, the listings."""
