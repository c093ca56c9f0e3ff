"""The fork server: loads the application once, then only forks, signals and reaps."""
