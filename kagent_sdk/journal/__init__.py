"""Where tasks are kept, behind a small port."""
