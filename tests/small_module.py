"""A module with one layer, for tests of Lightning itself."""

import torch
from lightning import LightningModule
from torch.utils.data import DataLoader


class SmallModule(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch).square().mean()

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.layer(batch).square().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

    @staticmethod
    def loader(batches=5):
        return DataLoader(torch.ones(batches, 2), 1)
