"""One fused state dict <-> the state dicts of the plain networks it is made of."""

from torch import Tensor


def stack_replicas(state: dict[str, Tensor], replicas: int) -> dict[str, Tensor]:
    """A fused state dict as {name: [R, ...]}: entry r is what the plain network of replica r would hold."""

    def split(name: str, value: Tensor) -> Tensor:
        if value.ndim == 0:  # step counters are common to all replicas
            return value.repeat(replicas)
        if name.endswith(("running_mean", "running_var")):  # [C] or, ghost norm, [S, C]
            return value.unflatten(-1, (replicas, -1)).movedim(-2, 0).contiguous()
        return value.unflatten(0, (replicas, -1)).contiguous()

    return {name: split(name, value) for name, value in state.items()}


def fuse_replicas(stacked: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `stack_replicas`."""

    def join(name: str, value: Tensor) -> Tensor:
        if value.ndim == 1:
            return value[0].clone()
        if name.endswith(("running_mean", "running_var")):
            return value.movedim(0, -2).flatten(-2).contiguous()
        return value.flatten(0, 1)

    return {name: join(name, value) for name, value in stacked.items()}
