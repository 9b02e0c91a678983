"""The same few steps of pre-training on 1, 2 and 4 devices of one process, and in 2 processes: are the losses the same?

Without GPUs the CPU is split into virtual devices, which share its cores: equal losses are what is shown then, not speed. Dropout is
off, as every device draws masks of its own.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks import hardware, random_bank, report, turns
from kaleidobert import configs, io
from kaleidobert.configs import PretrainConfig
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sampling.pretraining import PretrainSampler
from kaleidobert.errors import UserError
from kaleidobert.levels import KALEIDO

CASES = ((1, 1), (2, 1), (4, 1), (1, 2))  # devices of a process, processes
LIMIT = 300  # seconds for a case


def main(arguments: list[str] | None = None) -> int:
    """Runs the program; returns the exit status."""
    parser = report.parser("benchmarks.devices", __doc__.split("\n")[0])
    report.add_precision(parser)
    parser.add_argument("--steps", type=report.positive, default=6, help="default: 6")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.set_defaults(size="tiny")
    options = parser.parse_args(arguments)
    return report.guarded(work if options.worker else run, options)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Trains in every way, prints, writes. Raises UserError where one fails."""
    machine, batch = report.machine(), options.batch or random_bank.SIZES[options.size].batch
    gpus, rows = len(hardware.gpus()), []
    with tempfile.TemporaryDirectory(prefix="kaleido-benchmark-") as folder:
        random_bank.write(Path(folder), options.size, max(64, 2 * batch))
        for devices, processes in CASES:
            if not gpus or devices * processes <= gpus:
                settings = {"bank": folder, "size": options.size, "batch": batch, "steps": options.steps, "precision": options.precision,
                            "devices": devices, "split": 0 if gpus else devices}
                rows.append({"devices": devices, "processes": processes, **case(settings, processes)})
    machine["versions"] |= rows[0].pop("versions")
    first = rows[0]["losses"]
    for row in rows:
        row["difference"] = max(abs(step[name] / whole[name] - 1) for step, whole in zip(row["losses"], first) for name in whole)
    agreement = min(-np.log10(max(row["difference"], 1e-12)) for row in rows[1:]) if rows[1:] else float("nan")
    title = f"devices: {options.size}, batch {batch}, {options.steps} steps, {options.precision}, {rows[0].pop('backend')}"
    result = {"title": title, "machine": machine, "cases": rows, "equal_digits": float(agreement)}
    print(markdown(result))
    if options.json is not None:
        io.write_json(options.json, result)
    return result


def case(settings: Mapping[str, Any], processes: int) -> dict[str, Any]:
    """Returns the result of process 0."""
    words = [sys.executable, "-m", "benchmarks.devices", "--worker", json.dumps(settings)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    started = []
    try:
        for rank in range(processes):
            named = {"KALEIDO_RANK": str(rank), "KALEIDO_SIZE": str(processes), "KALEIDO_ADDRESS": address} if processes > 1 else {}
            started.append(subprocess.Popen(words, cwd=turns.ROOT, env={**os.environ, **named}, text=True, stdout=subprocess.PIPE,
                                            stderr=subprocess.PIPE))
        said = [process.communicate(timeout=LIMIT) for process in started]
    except subprocess.TimeoutExpired:
        raise UserError(f"{processes} processes with {settings['devices']} devices took longer than {LIMIT} s", "devices") from None
    finally:
        for process in started:
            process.kill()
    if any(process.returncode for process in started):
        why = turns.reason("".join(error for _, error in said))
        raise UserError(why, f"{processes} processes with {settings['devices']} devices")
    return json.loads(said[0][0].splitlines()[-1])


def work(options: argparse.Namespace) -> None:
    """Trains as a worker, and in process 0 prints JSON with the losses of all steps and examples/s behind the first."""
    settings = json.loads(options.worker)
    _split(settings["split"])
    import keras

    from benchmarks import keras_peer
    from kaleidobert.app_zoo import models
    from kaleidobert.engines import steps
    from kaleidobert.engines.distributed import distribution
    from kaleidobert.model_zoo.kaleidobert import pretrainer

    config = _config(settings)
    with distribution.scope(config.train) as process:
        bank = Bank(settings["bank"])
        sampler = PretrainSampler(bank, bank.rows("train"), config.levels, config.sampling, config.train.batch_size, config.train.seed)
        model = pretrainer(models.backbone_config(bank, config.levels, config.model, config.train))
        optimizer, _ = models.schedule(config.train, 100 * settings["batch"])
        optimizer.build(model.trainable_variables)
        update = steps.train_step(model, keras_peer.loss_function(config, config.levels), optimizer, config.train.clip_norm)
        feed, result, seconds = distribution.feed(sampler.batch, 1, models.shard_maker(sampler, config.train)), [], []
        for step in range(settings["steps"]):
            begun = perf_counter()
            result.append(steps.read(update(*feed(step)[1])))
            seconds.append(perf_counter() - begun)
        process.leave()
        rate = settings["batch"] / float(np.median(seconds[1:])) if seconds[1:] else float("nan")
        print(json.dumps({"losses": result, "examples_per_second": rate, "backend": keras.backend.backend(),
                          "versions": report.machine()["versions"]}), flush=True)


def _config(settings: Mapping[str, Any]) -> PretrainConfig:
    words = [f"train.batch_size={settings['batch']}", f"train.precision={settings['precision']}", f"train.devices={settings['devices']}",
             "train.dynamic_padding=false", "sampling.masking=random", "model.dropout=0", "model.attention_dropout=0"]
    config = configs.load(PretrainConfig, random_bank.CONFIGS / random_bank.SIZES[settings["size"]].folder / "pretrain.yaml", words)
    return replace(config, levels=config.levels or KALEIDO)


def _split(devices: int) -> None:
    """Makes so many devices of the CPU; before anything else is done with the backend."""
    import keras

    if devices > 1 and keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_num_cpu_devices", devices)
    elif devices > 1:
        import tensorflow as tf

        parts = [tf.config.LogicalDeviceConfiguration()] * devices
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)


def markdown(result: Mapping[str, Any]) -> str:
    """Returns a table with a line for each way."""
    heads = ("processes", "devices of each", "loss of the first step", "of the last",
             "largest relative difference of any loss from one device's", "examples/s")
    lines = [f"## {result['title']}", "", "| " + " | ".join(heads) + " |", "|---:" * len(heads) + "|"]
    for row in result["cases"]:
        ends = [f"{row['losses'][position]['loss']:.5f}" for position in (0, -1)]
        lines.append(f"| {row['processes']} | {row['devices']} | {ends[0]} | {ends[1]} | {row['difference']:.1e} | "
                     f"{row['examples_per_second']:.1f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
