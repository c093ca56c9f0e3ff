"""What must not grow in a service that runs for months. Run by hand: tests/soak/respawns."""
