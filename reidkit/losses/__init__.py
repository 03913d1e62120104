"""Every loss of the five papers and of those they compare with. One signature:

    loss(features, pids, camids, *, …) -> scalar tensor      (a module only where it has state or weights)

features (N, d) float, pids and camids (N,) int64. Distance, normalisation, reduction and margin are named arguments.
Nothing is normalised silently: callers normalise where the paper does. A batch without a valid pair gives a
differentiable 0, never NaN. Bad shapes or dtypes raise ValueError.
"""
