"""Data sets: built-in ones, folders, standard layouts, hub data sets, and human responses to images."""

from __future__ import annotations

from pruningbench.contract import Register, hookimpl

pruningbench_contract = "1.0"


@hookimpl
def pruningbench_register_datasets(register: Register) -> None:
    """Register the data sets."""
    register("digits", "pruningbench_data.digits:Digits")
    register("digit-scenes", "pruningbench_data.scenes:DigitScenes")
    register("photos", "pruningbench_data.photos:Photos")
    register("folder", "pruningbench_data.folder:Folder")
    register("hub", "pruningbench_data.hub:Hub")
    register("imagenet", "pruningbench_data.imagenet:ImageNet")
    register("imagenet-10-tasks", "pruningbench_data.imagenet:ImageNetTask")
    register("imagenette", "pruningbench_data.imagenette:Imagenette")
    register("cifar10", "pruningbench_data.cifar:Cifar10")
    register("cifar100", "pruningbench_data.cifar:Cifar100")
    register("voc07", "pruningbench_data.voc:Voc07")
    register("voc12", "pruningbench_data.voc:Voc12")
    register("coco20k", "pruningbench_data.coco:Coco20k")
    register("model-vs-human", "pruningbench_data.model_vs_human:ModelVsHuman")
    register("cifar10h", "pruningbench_data.cifar:Cifar10H")
    register("things", "pruningbench_data.triplets:Things")
    register("nights", "pruningbench_data.triplets:Nights")
