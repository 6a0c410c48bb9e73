"""The command: parses, sets threads, calls, prints. Nothing heavy is imported before the verb is known."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from tailwise.cli.options import changing_options, operating_options, seed_option, whole

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
ONE_THREAD = frozenset({"serve", "rank"})
"""Verbs whose work is many small products: a second thread would only wait."""

VERBS = {
    "demo": "tailwise.cli.live:demo",
    "data": "tailwise.cli.tables:get_data",
    "validate": "tailwise.cli.tables:validate_folder",
    "fit": "tailwise.cli.models:fit_model",
    "rank": "tailwise.cli.models:rank_requests",
    "evaluate": "tailwise.cli.models:evaluate_model",
    "compare": "tailwise.cli.models:compare_reports",
    "crossvalidate": "tailwise.cli.crossvalidate:crossvalidate_pipeline",
    "tune": "tailwise.cli.tune:tune_pipeline",
    "export": "tailwise.cli.export:export_model",
    "serve": "tailwise.cli.live:serve_model",
    "ingest": "tailwise.cli.feed:ingest_stream",
    "learn": "tailwise.cli.learn:learn_on",
    "keys": "tailwise.cli.keys:keep_keys",
    "fit-classifier": "tailwise.cli.classify:fit_texts",
    "classify": "tailwise.cli.classify:classify_texts",
    "doctor": "tailwise.cli.live:doctor",
}


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run one command.

    Returns:
        0 when it did what was asked, 1 when it failed, 2 when it was asked wrongly.
    """
    options = parser().parse_args(argv)
    _pin_threads(options.verb)
    if options.debug:
        import logging

        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    from tailwise.errors import TailwiseError, UsageError

    module, _, function = VERBS[options.verb].partition(":")
    try:
        code: int = getattr(import_module(module), function)(options)
    except TailwiseError as error:
        if options.debug:
            raise
        return _fail(str(error), code=2 if isinstance(error, UsageError) else 1)
    except BrokenPipeError:  # the reader of our output went away, as ``head`` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return _fail("interrupted")
    except ModuleNotFoundError as error:
        if options.debug:
            raise
        return _fail(f"{error.name} is not installed: pip install 'tailwise[train,language]'; see: tailwise doctor")
    except Exception as error:  # a bug still gets one line, and the traceback on request
        if options.debug:
            raise
        return _fail(f"unforeseen {type(error).__name__}: {error}; add --debug for the traceback")
    return code


def parser() -> argparse.ArgumentParser:
    """All verbs with their options."""
    from tailwise.cli.classify import reading_verbs
    from tailwise.cli.export import export_verb

    top = _Parser(
        prog="tailwise",
        description="A re-ranking engine for recommender systems and search.",
        epilog="Start with: tailwise demo. Every command has --help with an example.",
        formatter_class=_Wide,
    )
    top.add_argument("--version", action=_Version, nargs=0, help="print the version")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="COMMAND")

    demo = _verb(verbs, "demo", "public data, fit, evaluation against baselines, page", "tailwise demo --no-serve")
    demo.add_argument("--port", type=int, default=8000, help="of the page (default: 8000)")
    demo.add_argument("--no-serve", action="store_true", help="stop after the report")
    demo.add_argument("--out", type=Path, default=Path("tailwise-demo"), help="folder for data, model and report")
    seed_option(demo)

    data = _verb(
        verbs, "data", "get a public data set, or hide who is in one", "tailwise data get ml-100k data/ml-100k"
    )
    data.add_argument("what", choices=["get", "pseudonymise"], help="what to do")
    data.add_argument("name", metavar="NAME", help="of the data set: ml-100k; or the folder whose people to rename")
    data.add_argument("folder", metavar="DIR", type=Path, help="where to put it")
    data.add_argument("--secret", metavar="FILE", type=Path, help="of pseudonymise, as of tailwise serve")

    validate = _verb(verbs, "validate", "check a data folder", "tailwise validate data/shop")
    validate.add_argument("folder", metavar="DIR", type=Path, help="with events, items and so on")

    fit = _verb(verbs, "fit", "fit a pipeline", "tailwise fit data/shop --out models/shop --until 2026-01-01")
    fit.add_argument("folder", metavar="DIR", type=Path, help="data folder")
    fit.add_argument("--out", metavar="MODEL", type=Path, required=True, help="model folder to write")
    fit.add_argument("--config", metavar="FILE.toml", type=Path, help="pipeline (default: the built-in one)")
    fit.add_argument("--start", metavar="MODEL", type=Path, help="another domain's model to start from; events or none")
    fit.add_argument("--until", metavar="TIME", help="use events before this: seconds since epoch, or ISO 8601")
    fit.add_argument("--holdout", choices=["last"], help="leave each person's last event out, to evaluate on it")
    seed_option(fit)

    rank = _verb(verbs, "rank", "answer requests in bulk", "tailwise rank models/shop --requests r.jsonl --out a.jsonl")
    rank.add_argument("model", metavar="MODEL", type=Path, help="model folder")
    rank.add_argument("--requests", metavar="R.jsonl", type=Path, required=True, help="one request a line")
    rank.add_argument("--out", metavar="RANKED.jsonl", type=Path, required=True, help="one answer a line")
    rank.add_argument(
        "--explain", action="store_true", help="with the first-stage order, the history, and what each score is made of"
    )
    rank.add_argument("--state", metavar="URL", default="memory://", help="events since the fit (default: none)")

    evaluate = _verb(
        verbs, "evaluate", "measure beside baselines", "tailwise evaluate models/shop data/shop --split last"
    )
    evaluate.add_argument("model", metavar="MODEL", type=Path, help="model folder")
    evaluate.add_argument("folder", metavar="DIR", type=Path, help="data folder")
    evaluate.add_argument(
        "--split", choices=["time", "last", "cold"], help="default: as the model was held out, or last"
    )
    evaluate.add_argument(
        "--targets",
        choices=["all", "next"],
        default="all",
        help="of the time split: all that a person did later (default), or their next moment alone, as a basket",
    )
    evaluate.add_argument(
        "--at", metavar="TIME", help="cut of the time split (default: the model's, or 80 %% of events)"
    )
    evaluate.add_argument("--out", metavar="REPORT_DIR", type=Path, help="write JSON, Markdown and HTML there")
    evaluate.add_argument("--people", type=whole(1), metavar="N", help="judge at most N people, drawn by the seed")
    seed_option(evaluate, "of baselines and draws")

    compare = _verb(verbs, "compare", "paired tests between reports", "tailwise compare reports/a reports/b")
    compare.add_argument(
        "reports", metavar="REPORT", type=Path, nargs="+", help="report folder; the first is the reference"
    )

    _choosing(verbs)
    reading_verbs(verbs, _verb)
    export_verb(verbs, _verb)

    _serving(verbs)

    doctor = _verb(verbs, "doctor", "versions, extras, threads, model files", "tailwise doctor models/shop")
    doctor.add_argument("model", metavar="MODEL", type=Path, nargs="?", help="model folder to check")
    return top


def _choosing(verbs: argparse._SubParsersAction[_Parser]) -> None:
    """The verbs that say which pipeline is better, before one is made."""
    folds = _verb(
        verbs, "crossvalidate", "measure a pipeline on several folds", "tailwise crossvalidate data/shop --folds 5"
    )
    folds.add_argument("folder", metavar="DIR", type=Path, help="data folder")
    folds.add_argument("--config", metavar="FILE.toml", type=Path, help="pipeline (default: the built-in one)")
    folds.add_argument("--folds", type=int, default=5, help="how many fits, each judged by another part (default: 5)")
    folds.add_argument(
        "--by",
        choices=["people", "time", "chance"],
        default="people",
        help="the last event of each fold's people; stretches of time; events by chance (default: people)",
    )
    folds.add_argument("--out", metavar="REPORT_DIR", type=Path, help="write JSON and Markdown there")
    folds.add_argument("--people", type=whole(1), metavar="N", help="judge at most N people a fold, drawn by the seed")
    seed_option(folds)

    tune = _verb(verbs, "tune", "search settings", "tailwise tune data/shop --config shop.toml --trials 40 --jobs 2")
    tune.add_argument("folder", metavar="DIR", type=Path, help="data folder")
    tune.add_argument("--config", metavar="FILE.toml", type=Path, help="pipeline; its [tune] says what to search")
    tune.add_argument("--trials", metavar="N", type=int, required=True, help="fits in all, those of earlier runs too")
    tune.add_argument("--jobs", metavar="J", type=int, default=1, help="processes that share the cores (default: 1)")
    tune.add_argument("--timeout", metavar="S", type=float, help="seconds after which no fit begins")
    tune.add_argument(
        "--out", metavar="BEST.toml", type=Path, help="best pipeline; trials beside it (default: FILE-tuned.toml)"
    )
    seed_option(tune)


def _serving(verbs: argparse._SubParsersAction[_Parser]) -> None:
    """What runs until it is told to stop."""
    from tailwise.cli.learn import learn_verb

    learn_verb(verbs, _verb)
    serve = _verb(verbs, "serve", "the HTTP service and the page", "tailwise serve models/shop --port 8000")
    serve.add_argument("model", metavar="MODEL", type=Path, nargs="?", help="model folder")
    serve.add_argument("--port", type=int, default=8000, help="default: 8000")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    serve.add_argument(
        "--state", metavar="URL", help="memory://, sqlite:///PATH (default: beside the model) or redis://"
    )
    serve.add_argument("--log", metavar="DIR", type=Path, help="write every stored event there, for the next fit")
    serve.add_argument("--ingest", metavar="URL", help="take events from redis://HOST:PORT/DB/STREAM too")
    serve.add_argument("--workers", type=int, default=1, help="processes (default: 1)")

    operating_options(serve)
    changing_options(serve)
    _guarding(serve, verbs)

    ingest = _verb(
        verbs, "ingest", "events from a queue", "tailwise ingest redis://HOST/0/events --state redis://HOST/0"
    )
    ingest.add_argument("stream", metavar="URL", help="redis://HOST:PORT/DB/STREAM?group=NAME")
    ingest.add_argument("--state", metavar="URL", required=True, help="where events go, as of tailwise serve")
    ingest.add_argument("--pseudonymise", metavar="FILE", type=Path, help="secret: store keyed hashes of people's ids")
    ingest.add_argument("--once", action="store_true", help="end when nothing more is there")


def _guarding(serve: argparse.ArgumentParser, verbs: argparse._SubParsersAction[_Parser]) -> None:
    """Who may ask what is served, and the verb that makes keys."""
    serve.add_argument("--tenants", metavar="DIR", type=Path, help="instead of MODEL: a folder of them, one a tenant")
    serve.add_argument("--keys", metavar="FILE", type=Path, help="API keys (default: whoever reaches it may ask)")
    serve.add_argument("--jwt", metavar="FILE.toml", type=Path, help="believe an identity provider's tokens")
    serve.add_argument("--tls-cert", metavar="FILE", type=Path, help="certificate chain (PEM): serve HTTPS")
    serve.add_argument("--tls-key", metavar="FILE", type=Path, help="its private key (PEM)")
    serve.add_argument("--at-once", type=int, default=1024, metavar="N", help="requests at once (default: 1024)")
    serve.add_argument("--least-people", type=int, default=10, metavar="K", help="of any number told (default: 10)")
    serve.add_argument("--pseudonymise", metavar="FILE", type=Path, help="secret: store keyed hashes of people's ids")

    keys = _verb(verbs, "keys", "API keys of the service", "tailwise keys create --keys keys.toml --name shop")
    keys.add_argument("what", choices=["create", "list", "revoke", "rotate"], help="what to do")
    keys.add_argument("id", metavar="ID", nargs="?", help="of the key to revoke or rotate")
    keys.add_argument("--keys", metavar="FILE", type=Path, required=True, help="where they are kept")
    keys.add_argument("--name", default="", help="what people call it")
    keys.add_argument("--scopes", default="read", help="read, write, admin, with commas between (default: read)")
    keys.add_argument("--tenant", default="", help="whose people and items it reaches, where there are tenants")
    keys.add_argument("--days", type=float, help="how long it is valid (default: until revoked)")
    keys.add_argument("--rate", type=float, help="requests a second (default: no limit)")
    keys.add_argument("--burst", type=int, help="requests at once (default: those of a second)")
    keys.add_argument("--daily", type=int, help="requests a day, UTC (default: no limit)")
    keys.add_argument("--hours", type=float, default=24.0, help="that a rotated key goes on (default: 24)")


class _Parser(argparse.ArgumentParser):
    """Says what was asked wrongly in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"tailwise: {message}; see: {self.prog} --help\n")


class _Wide(argparse.HelpFormatter):
    """Room for the longest verb beside what it does."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog)
        self._action_max_length = 18  # it counts names as if they were not indented


class _Version(argparse.Action):
    """The version, looked up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"tailwise {version('tailwise')}")  # noqa: T201  this is where the command speaks
        parser.exit()


def _verb(verbs: argparse._SubParsersAction[_Parser], name: str, does: str, example: str) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.", epilog=f"example: {example}")
    verb.add_argument(
        "--debug", action="store_true", help="print the traceback of a failure, and what happens on the way"
    )
    return verb


def _pin_threads(verb: str) -> None:
    """Matrix libraries read these when they are first imported, which is after this."""
    wanted = os.environ.get("TAILWISE_THREADS") or ("1" if verb in ONE_THREAD else str(len(os.sched_getaffinity(0))))
    for variable in THREAD_VARIABLES:
        os.environ.setdefault(variable, wanted)
    # Threads that spin while they wait bring a busy machine to a halt.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _fail(message: str, *, code: int = 1) -> int:
    from tailwise.serve.masking import masked

    print(masked(f"tailwise: {' '.join(message.split())}"), file=sys.stderr)  # noqa: T201  this is where the command speaks
    return code
