"""mdive beside its peers: one rule on one workload, the same pixels, who takes how much."""
