"""What helps: the known cures tried on the user's own network and data, against the untreated control."""
