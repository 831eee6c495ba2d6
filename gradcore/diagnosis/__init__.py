"""What is wrong with a network, why, and which changes help: diagnosis, alternatives, proof and report."""
