"""What people did lately: stores that keep events, give a person's history and forget a person for good."""
