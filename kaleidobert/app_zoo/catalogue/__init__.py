"""A shop's catalogue with one command: check (what the table holds, what is lost) and run (everything, sized by one dial)."""
