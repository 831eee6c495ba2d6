"""A family of random networks whose truth is known by training them, to judge the diagnosis by."""
