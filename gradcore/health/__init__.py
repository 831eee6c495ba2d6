"""The books on gains and signals, what theory expects of them, and the rules that read them."""
