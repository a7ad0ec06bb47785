"""What a user of PyTorch would write instead: the DataLoader loop, plain tensors, torch.func over several seeds.

All train the same network on the same images, rotated alike, with torch's own layers and optimisers.
"""

import itertools

import recipe
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from s6lib import data
from s6lib.training.precision import default_device, keep_freed_memory

KINDS = {
    "conv": lambda one: nn.Conv2d(one.inputs, one.outputs, one.kernel, padding=one.padding, bias=one.bias),
    "relu": lambda one: nn.ReLU(inplace=True),
    "norm": lambda one: nn.BatchNorm2d(one.outputs),
    "dropout": lambda one: (nn.Dropout2d if one.whole_channels else nn.Dropout)(one.rate),
    "max_pool": lambda one: nn.MaxPool2d(one.kernel),
    "avg_pool": lambda one: nn.AvgPool2d(one.kernel),
}


def network(job: dict) -> nn.Sequential:
    """[N, 1, 28, 28] -> logits [N, 10]."""
    layers = [KINDS[one.kind](one) for one in recipe.layers(job["network"])]
    return nn.Sequential(*layers, nn.Flatten()).to(default_device())


def optimiser(job: dict, parameters, **options) -> torch.optim.Optimizer:
    trial = recipe.make_trial(job["network"], job["batch"])
    if trial.optimiser == "sgd":
        return torch.optim.SGD(parameters, trial.learning_rate, trial.momentum, **options)
    return torch.optim.Adam(parameters, trial.learning_rate, **options)


def autocast(job: dict) -> torch.autocast:
    return torch.autocast(default_device().type, torch.bfloat16, enabled=job["precision"] == "bfloat16")


def percent_right(logits: Tensor, labels: Tensor) -> float:
    return 100 * (logits.argmax(-1) == labels).double().mean().item()


# --- tensors in memory -----------------------------------------------------------------------------


class Tensors:
    """Random batches for R seeds from images in memory; rotated, nearest pixel, by a table of pixel numbers."""

    def __init__(self, job: dict):
        self.dataset = recipe.load(job).to(default_device())
        self.size, self.replicas = job["batch"], job["replicas"]
        self.pixels = F.pad(self.dataset.train_images.flatten(1), (0, 1))  # the 785th pixel is black
        self.table = data.rotation_table(recipe.ROTATION).to(self.pixels.device)

    def __iter__(self):
        """Images [R, N, 1, 28, 28] and labels [R, N], epoch after epoch."""
        count = len(self.pixels)
        while True:
            order = torch.stack([torch.randperm(count, device=self.pixels.device) for _ in range(self.replicas)])
            for start in range(0, count - self.size + 1, self.size):
                yield self.batch(order[:, start : start + self.size])

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        angles = torch.randint(len(self.table), index.shape, device=index.device)
        pixels = self.pixels[index].gather(-1, self.table[angles])
        return self.normalise(pixels).unflatten(-1, (1, 28, 28)), self.dataset.train_labels[index]

    def normalise(self, pixels: Tensor) -> Tensor:
        return pixels.float().sub_(255 * self.dataset.mean).mul_(1 / (255 * self.dataset.std))

    def test(self):
        """Normalised test images and labels, in parts."""
        for images, labels in zip(
            self.dataset.test_images.split(500), self.dataset.test_labels.split(500), strict=True
        ):
            yield self.normalise(images)[:, None], labels


class Plain:
    """One network, as a good user of PyTorch trains it: channels last, fused optimiser, freed memory kept."""

    def __init__(self, job: dict):
        keep_freed_memory()
        self.job, self.tensors = job, Tensors(job)
        self.net = network(job).to(memory_format=torch.channels_last).train()
        self.optimiser = optimiser(job, self.net.parameters(), fused=True)
        self.batches = iter(self.tensors)

    def step(self) -> Tensor:
        x, y = next(self.batches)
        with autocast(self.job):
            logits = self.net(x[0])
        loss = F.cross_entropy(logits.float(), y[0])
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return loss.detach()[None]

    @torch.no_grad()
    def accuracy(self) -> float:
        self.net.eval()
        logits = torch.cat([self.net(x) for x, _ in self.tensors.test()])
        return percent_right(logits, self.tensors.dataset.test_labels)


class Vmap:
    """R networks by torch.func: one functional call mapped over stacked parameters, buffers and images."""

    def __init__(self, job: dict):
        keep_freed_memory()
        self.job, self.tensors = job, Tensors(job)
        nets = [network(job) for _ in range(job["replicas"])]
        self.net = nets[0].train()
        self.params, self.buffers = torch.func.stack_module_state(nets)
        self.params = {name: value.detach().requires_grad_() for name, value in self.params.items()}
        self.optimiser = optimiser(job, self.params.values(), fused=True)
        self.forward = torch.vmap(self._forward, randomness="different")
        self.batches = iter(self.tensors)

    def _forward(self, params: dict, buffers: dict, x: Tensor) -> Tensor:
        return torch.func.functional_call(self.net, (params, buffers), (x,))

    def step(self) -> Tensor:
        x, y = next(self.batches)
        with autocast(self.job):
            logits = self.forward(self.params, self.buffers, x)  # [R, N, 10]
        losses = F.cross_entropy(logits.float().flatten(0, 1), y.flatten(), reduction="none").view(y.shape).mean(1)
        self.optimiser.zero_grad(set_to_none=True)
        losses.sum().backward()
        self.optimiser.step()
        return losses.detach()

    @torch.no_grad()
    def accuracy(self) -> float:
        self.net.eval()
        forward = torch.vmap(self._forward, in_dims=(0, 0, None))
        logits = torch.cat([forward(self.params, self.buffers, x) for x, _ in self.tensors.test()], 1)
        return percent_right(logits, self.tensors.dataset.test_labels)


# --- the DataLoader loop ---------------------------------------------------------------------------


class DataLoaderLoop:
    """One network as the published studies train it: torchvision's transforms on PIL images, and in every step a
    progress bar and `.item()`."""

    def __init__(self, job: dict):
        from torchvision import transforms

        self.job, self.device, self.dataset = job, default_device(), recipe.load(job)
        turn = transforms.RandomRotation((-recipe.ROTATION, recipe.ROTATION), fill=(0,))
        scale = transforms.Normalize((self.dataset.mean,), (self.dataset.std,))
        images = PilImages(self.dataset, transforms.Compose([turn, transforms.ToTensor(), scale]))
        options = {"shuffle": True, "num_workers": job["workers"], "drop_last": True}
        self.loader = torch.utils.data.DataLoader(images, job["batch"], **options)
        self.net = network(job).train()
        self.optimiser = optimiser(job, self.net.parameters())
        self.batches = itertools.chain.from_iterable(itertools.repeat(self.loader))
        self.bar = tqdm(file=open("/dev/null", "w"))  # noqa: SIM115, PTH123

    def step(self) -> Tensor:
        x, y = next(self.batches)
        x, y = x.to(self.device), y.to(self.device)
        self.optimiser.zero_grad()
        logits = self.net(x)
        loss = F.cross_entropy(logits, y)
        loss.backward()
        self.optimiser.step()
        right = (logits.argmax(1) == y).sum().item()
        self.bar.set_description(f"loss={loss.item():.4f} right={right}")
        self.bar.update()
        return loss.detach()[None]

    @torch.no_grad()
    def accuracy(self) -> float:
        self.net.eval()
        images = self.dataset.normalise(self.dataset.test_images)[:, None]
        logits = torch.cat([self.net(x.to(self.device)) for x in images.split(500)])
        return percent_right(logits.cpu(), self.dataset.test_labels)


class PilImages:
    """Training images as PIL images, for a DataLoader."""

    def __init__(self, dataset: data.Dataset, transform):
        self.images, self.labels, self.transform = (
            dataset.train_images.numpy(),
            dataset.train_labels.tolist(),
            transform,
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int):
        from PIL import Image

        return self.transform(Image.fromarray(self.images[i])), self.labels[i]
