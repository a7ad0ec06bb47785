"""JAX: R networks by vmap in one jitted step. Convolution is a matrix product on windows, the fastest form tried."""

import jax
import jax.numpy as jnp
import numpy as np
import recipe
from recipe import Layer

from s6lib import data

jax.config.update("jax_default_prng_impl", "rbg")  # several times as fast on a CPU as the default generator
EPSILON, MOMENTUM = 1e-5, 0.1  # of batch norm, as torch's


# --- layers: [N, H, W, C] --------------------------------------------------------------------------


def windows(x: jax.Array, one: Layer) -> jax.Array:
    """Every window of a convolution, [N, H', W', k * k * C]."""
    k, p = one.kernel, one.padding
    x = jnp.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))
    h, w = x.shape[1] - k + 1, x.shape[2] - k + 1
    return jnp.concatenate([x[:, i : i + h, j : j + w] for i in range(k) for j in range(k)], -1)


def convolve(x: jax.Array, one: Layer, weights: dict, precision) -> jax.Array:
    y = jnp.einsum("nhwk,ko->nhwo", windows(x.astype(precision), one), weights["w"].astype(precision))
    return y + weights["b"].astype(precision) if one.bias else y


def normalise(x: jax.Array, weights: dict, running: tuple, train: bool) -> tuple[jax.Array, tuple]:
    """Batch norm and its running mean and variance."""
    mean, variance = running
    if train:
        wide = x.astype(jnp.float32)
        now, spread = wide.mean((0, 1, 2)), wide.var((0, 1, 2))
        count = x.size // x.shape[-1]
        unbiased = spread * count / (count - 1)
        running = (mean + MOMENTUM * (now - mean), variance + MOMENTUM * (unbiased - variance))
        mean, variance = now, spread
    scale = weights["w"] / jnp.sqrt(variance + EPSILON)
    return (x * scale.astype(x.dtype) + (weights["b"] - mean * scale).astype(x.dtype)), running


def drop(x: jax.Array, one: Layer, key: jax.Array) -> jax.Array:
    shape = (len(x), 1, 1, x.shape[-1]) if one.whole_channels else x.shape
    keep = jax.random.bits(key, shape, jnp.uint16) >= round(one.rate * 65536)
    return jnp.where(keep, x / (1 - one.rate), 0).astype(x.dtype)


def pool(x: jax.Array, kernel: int, reduce) -> jax.Array:
    n, h, w, c = x.shape
    x = x[:, : h // kernel * kernel, : w // kernel * kernel]
    return reduce(x.reshape(n, h // kernel, kernel, w // kernel, kernel, c), (2, 4))


def forward(layers, params, running, x, key, train: bool, precision) -> tuple[jax.Array, list]:
    """Logits [N, 10], and the running statistics after it."""
    seen = []
    for i, one in enumerate(layers):
        if one.kind == "conv":
            x = convolve(x, one, params[i], precision)
        elif one.kind == "relu":
            x = jnp.maximum(x, 0)
        elif one.kind == "norm":
            x, found = normalise(x, params[i], running[len(seen)], train)
            seen.append(found)
        elif one.kind == "dropout" and train:
            x = drop(x, one, jax.random.fold_in(key, i))
        elif one.kind.endswith("pool"):
            x = pool(x, one.kernel, jnp.max if one.kind == "max_pool" else jnp.mean)
    return x.reshape(len(x), -1).astype(jnp.float32), seen


def first_weights(layers, source: np.random.Generator) -> list[dict]:
    """A dict per layer; convolutions by torch's default law."""
    found = []
    for one in layers:
        weights = {}
        if one.kind == "conv":
            size = one.kernel**2 * one.inputs
            draw = lambda *shape, b=size**-0.5: source.uniform(-b, b, shape).astype(np.float32)  # noqa: E731
            weights = {"w": draw(size, one.outputs)} | ({"b": draw(one.outputs)} if one.bias else {})
        elif one.kind == "norm":
            weights = {"w": np.ones(one.outputs, np.float32), "b": np.zeros(one.outputs, np.float32)}
        found.append(weights)
    return found


def stacked(trees: list):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


# --- training --------------------------------------------------------------------------------------


class Vmap:
    def __init__(self, job: dict):
        self.layers, self.trial = recipe.layers(job["network"]), recipe.make_trial(job["network"], job["batch"])
        self.precision = jnp.bfloat16 if job["precision"] == "bfloat16" else jnp.float32
        dataset, seeds = recipe.load(job), range(job["replicas"])
        self.dataset, self.source = dataset, np.random.default_rng(0)
        self.pixels = jnp.asarray(np.pad(dataset.train_images.numpy().reshape(-1, 784), ((0, 0), (0, 1))))
        self.labels = jnp.asarray(dataset.train_labels.numpy().astype(np.int32))
        self.table = jnp.asarray(data.rotation_table(recipe.ROTATION).numpy().astype(np.int32))
        params = stacked([first_weights(self.layers, np.random.default_rng(seed)) for seed in seeds])
        zeros = lambda: jax.tree.map(jnp.zeros_like, params)  # two trees: both are given away to the step  # noqa: E731
        widths = [one.outputs for one in self.layers if one.kind == "norm"]
        running = stacked([[(jnp.zeros(c), jnp.ones(c)) for c in widths] for _ in seeds])
        self.state = (params, running, zeros(), zeros(), jax.random.split(jax.random.key(0), len(seeds)))
        self.count = 0
        self.update = jax.jit(jax.vmap(self._update, in_axes=(0, 0, None)), donate_argnums=0)
        self.batches = self._batches(job["batch"], len(seeds))

    def _batches(self, size: int, replicas: int):
        count = len(self.labels)
        while True:
            order = np.stack([self.source.permutation(count) for _ in range(replicas)]).astype(np.int32)
            yield from (order[:, k : k + size] for k in range(0, count - size + 1, size))

    def _loss(self, params, running, index, key):
        turn, masks = jax.random.split(key)
        origin = self.table[jax.random.randint(turn, index.shape, 0, len(self.table))]
        x = self._normalised(jnp.take_along_axis(self.pixels[index], origin, 1))
        logits, running = forward(self.layers, params, running, x, masks, True, self.precision)
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), self.labels[index][:, None], 1)
        return -chosen.mean(), running

    def _normalised(self, pixels):
        x = (pixels.astype(jnp.float32) / 255 - self.dataset.mean) / self.dataset.std
        return x.reshape(-1, 28, 28, 1)

    def _update(self, state, index, count):
        """One step of one replica."""
        params, running, m, v, key = state
        key, now = jax.random.split(key)
        (loss, running), grads = jax.value_and_grad(self._loss, has_aux=True)(params, running, index, now)
        rate, tree = self.trial.learning_rate, jax.tree.map
        if self.trial.optimiser == "sgd":
            m = tree(lambda m, g: self.trial.momentum * m + g, m, grads)
            params = tree(lambda p, m: p - rate * m, params, m)
        else:  # Adam, torch's defaults
            m = tree(lambda m, g: 0.9 * m + 0.1 * g, m, grads)
            v = tree(lambda v, g: 0.999 * v + 0.001 * g * g, v, grads)
            a, b = 1 - 0.9**count, 1 - 0.999**count
            params = tree(lambda p, m, v: p - rate * (m / a) / (jnp.sqrt(v / b) + 1e-8), params, m, v)
        return (params, running, m, v, key), loss

    def step(self) -> jax.Array:
        self.count += 1
        self.state, losses = self.update(self.state, next(self.batches), np.float32(self.count))
        return losses.block_until_ready()  # without it steps would be queued, and not timed

    def accuracy(self) -> float:
        def right(params, running, x):
            return forward(self.layers, params, running, x, None, False, jnp.float32)[0].argmax(-1)

        predict = jax.jit(jax.vmap(right, in_axes=(0, 0, None)))
        images = np.array_split(self.dataset.test_images.numpy(), max(1, len(self.dataset.test_images) // 500))
        found = np.concatenate([np.asarray(predict(*self.state[:2], self._normalised(part))) for part in images], 1)
        return 100 * (found == self.dataset.test_labels.numpy()).mean()
