"""Making the shards of a bank on Apache Beam: the plans of the shards go through the pipeline, each worker makes whole shards.

A worker reads the source itself, once per process, so that the pipeline stays small: a number per shard, and where a bank follows its
catalogue the notes of the pictures that are copied. It
calls builder.build_shard, so that the shards are those of the local path, byte for byte. Sources, weights and bank must
lie where every worker sees them under the same paths. Works where `pip install kaleidobert[beam]` was run.
"""

import difflib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from kaleidobert.configs import RecordsConfig
from kaleidobert.datasets.bank import builder, states
from kaleidobert.datasets.bank.changes import Changes, ShardPlan, portions
from kaleidobert.datasets.products import Product
from kaleidobert.datasets.sources import reading
from kaleidobert.errors import UserError

_PRODUCTS: dict[str, Sequence[Product]] = {}  # the source that this process works on; read once, not once per shard


def build_shards(config: RecordsConfig, products: Sequence[Product], build_encoder: Any, build_network: Any = None,
                 result: Changes | None = None) -> Iterator[int]:
    """Makes the shards as builder.build_shards, on config.beam.runner; yields the new ones when the whole pipeline has ended.

    Raises UserError as ``check``, and where the pipeline fails; finished shards are kept.
    """
    counts = {number: len(chunk) for number, chunk in portions(config, products)}
    todo = (result or builder.compare(config, products)).plans
    yield from (counts[number] for number in counts.keys() - {plan.number for plan in todo})
    if not todo:
        return
    pipeline = _pipeline(config)
    _PRODUCTS.clear()
    _PRODUCTS[str(config.source)] = products
    make = partial(_make, config=config, build_encoder=build_encoder, build_network=build_network,
                   mark=states.planned(config.bank))
    try:
        _run(pipeline, todo, make)
    except UserError as error:
        raise UserError(error.what.split(" [while running")[0], error.where, error.expected, error.fix) from error
    except Exception as error:  # of the engine: each has types of its own; Beam logs where
        raise UserError(f"the pipeline failed ({str(error).strip().splitlines()[-1] if str(error).strip() else repr(error)})",
                        f"beam.runner {config.beam.runner}", fix="run the same command again; finished shards are kept") from error
    for plan in todo:
        if not states.is_noted(config.bank / plan.root, plan.number):
            raise UserError(f"shard {plan.number} was made, but is not here", str(config.bank), "a folder that all workers share",
                            "put the bank on a shared file system")
        yield counts[plan.number]


def check(config: RecordsConfig) -> None:
    """Raises UserError where config.beam cannot work: Beam is not installed, or knows no such runner or option."""
    _pipeline(config)


def _make(plan: ShardPlan, config: RecordsConfig, build_encoder: Any, build_network: Any, mark: str | None = None) -> int:
    """Makes one shard, in a worker."""
    key = str(config.source)
    if key not in _PRODUCTS:
        products, _ = reading.read(config.source)
        builder.check_products(config, products)  # the very products of which the bank is being made
        _PRODUCTS.clear()
        _PRODUCTS[key] = products
    chunk = _PRODUCTS[key][plan.number * config.shard_size : (plan.number + 1) * config.shard_size]
    with builder.one_core_each():
        return builder.build_shard(config, plan, chunk, build_encoder, build_network, mark)


def _pipeline(config: RecordsConfig) -> Any:
    try:
        import apache_beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError:
        raise UserError("Apache Beam is not installed", f"beam.runner {config.beam.runner}", fix="pip install 'kaleidobert[beam]', or "
                        "leave beam.runner empty") from None
    options = PipelineOptions.from_dictionary(dict(config.beam.options))
    try:
        pipeline = apache_beam.Pipeline(runner=config.beam.runner, options=options)
    except (ValueError, ImportError, AttributeError) as error:
        raise UserError(f"there is no such runner ({error})", f"beam.runner {config.beam.runner}") from None
    known = list(options.get_all_options())
    for name in config.beam.options:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise UserError(f"unknown option {name!r}", "beam.options", "an option of Apache Beam",
                            f"did you mean {near[0]!r}?" if near else "")
    return pipeline


def _run(pipeline: Any, plans: Sequence[ShardPlan], make: Any) -> None:
    import apache_beam

    # without the reshuffle a runner would fuse source and work, and one worker would make all shards
    pipeline | apache_beam.Create(plans) | apache_beam.Reshuffle() | apache_beam.Map(make)
    pipeline.run().wait_until_finish()
