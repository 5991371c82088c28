"""The pipeline of a call: route, attempt, stream contract, receipt, settlement."""
