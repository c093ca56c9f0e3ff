"""One job in a worker: its code, callbacks, function, processes, and what interrupts it."""
