"""Pages, pictures and tables about selections and runs, shared by cli and loop."""
