"""What a worker knows, and does, about one job."""
