"""Selection and search where rows are not all in memory (memory_limit) or not all in one process
(group), and the state of a selection in a file (checkpoint)."""
