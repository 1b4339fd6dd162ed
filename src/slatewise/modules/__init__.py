"""Small pure blocks that generators and rewards share: attention with cached keys, Transformer layers, the feature tower."""
