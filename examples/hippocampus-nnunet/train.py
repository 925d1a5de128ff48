"""Train a short real nnU-Net on the hippocampus cases, with nnU-Net itself; 160 steps, minutes on one core.

Run by a Python that has nnunetv2 (2.8.1) and its trainer folder writable, in an environment of its own (where
torchvision does not fit torch, uninstall it and remove nnunetv2/training/nnUNetTrainer/primus, which wants it):

    PYTHON examples/hippocampus-nnunet/train.py ../shared/data/mr-hippocampus-msd runs/hippocampus-nnunet

The model is left in ``runs/hippocampus-nnunet/results/.../nnUNetTrainerShort__nnUNetPlansSmall__3d_fullres``. It is
nnU-Net's planned 3d_fullres network with half its features and a patch of 32 x 40 x 32, trained without
augmentation by Adam: for showing the import, not for use. Training cases are the ``training`` part of
examples/hippocampus-mr/splits.json; the ``test`` part stays untouched for benchmarks/import_parity.py.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

TRAINER = '''
import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoDA import nnUNetTrainerNoDA


class nnUNetTrainerShort(nnUNetTrainerNoDA):
    def __init__(self, plans: dict, configuration: str, fold: int, dataset_json: dict, device=torch.device("cpu")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = EPOCHS, 10, 1
        self.initial_lr = 3e-3

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.network.parameters(), self.initial_lr)
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)

    def perform_actual_validation(self, save_probabilities: bool = False):
        """The training cases are not predicted again at the end."""
'''
SPLITS = Path(__file__).parents[1] / "hippocampus-mr" / "splits.json"
DATASET = "Dataset004_Hippocampus"


def raw_data(source: Path, folder: Path) -> None:
    """nnU-Net's raw layout of the training cases."""
    cases = json.loads(SPLITS.read_text())["training"]
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for case in cases:
        shutil.copy(source / "images" / f"{case}.nii.gz", folder / "imagesTr" / f"{case}_0000.nii.gz")
        shutil.copy(source / "labels" / f"{case}.nii.gz", folder / "labelsTr" / f"{case}.nii.gz")
    dataset = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "Anterior": 1, "Posterior": 2},
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(dataset))


def small_plans(folder: Path) -> None:
    """The planned network with half its features and a smaller patch."""
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    plans["plans_name"] = "nnUNetPlansSmall"
    configuration = plans["configurations"]["3d_fullres"]
    configuration["batch_size"], configuration["patch_size"] = 2, [32, 40, 32]
    configuration["architecture"]["arch_kwargs"]["features_per_stage"] = [16, 32, 64, 128]
    (folder / "nnUNetPlansSmall.json").write_text(json.dumps(plans, indent=1))


def main() -> None:
    """Plan, preprocess, train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="the hippocampus data")
    parser.add_argument("work", type=Path, help="a folder for nnU-Net's data and results")
    parser.add_argument("--epochs", type=int, default=16, help="of 10 steps; 16 made the model of the figures")
    given = parser.parse_args()
    source, work = given.source, given.work.absolute()
    places = {"nnUNet_raw": "raw", "nnUNet_preprocessed": "preprocessed", "nnUNet_results": "results"}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "nnUNet_def_n_proc"), "1")
    environment = {**os.environ, **threads, **{name: str(work / part) for name, part in places.items()}}
    environment |= {"nnUNet_compile": "f", "nnUNet_n_proc_DA": "1"}
    raw_data(source, work / "raw" / DATASET)
    import nnunetv2

    trainer = Path(nnunetv2.__file__).parent / "training" / "nnUNetTrainer" / "nnUNetTrainerShort.py"
    trainer.write_text(TRAINER.replace("EPOCHS", str(given.epochs)))
    tools = Path(sys.executable).parent
    for command in (
        ["nnUNetv2_extract_fingerprint", "-d", "4", "-np", "1"],
        ["nnUNetv2_plan_experiment", "-d", "4"],
        ["nnUNetv2_preprocess", "-d", "4", "-c", "3d_fullres", "-np", "1"],
    ):
        subprocess.run([str(tools / command[0]), *command[1:]], env=environment, check=True)
    small_plans(work / "preprocessed" / DATASET)
    train = ["4", "3d_fullres", "all", "-tr", "nnUNetTrainerShort", "-p", "nnUNetPlansSmall", "-device", "cpu"]
    environment["nnUNet_n_proc_DA"] = "0"
    subprocess.run([str(tools / "nnUNetv2_train"), *train], env=environment, check=True)


if __name__ == "__main__":
    main()
