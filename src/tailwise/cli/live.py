"""``demo``, ``serve`` and ``doctor``: seeing it run."""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
from pathlib import Path

from tailwise.cli.progress import Progress, say
from tailwise.errors import ConfigError, UsageError


def demo(options: argparse.Namespace) -> int:
    """Real data, a fit that leaves each person's last event out, the evaluation on those, and the page."""
    from tailwise.cli.models import measured, show, summary
    from tailwise.data import sources
    from tailwise.data.load import load
    from tailwise.data.split import split_last
    from tailwise.learn.fit import fit

    if not options.no_serve:  # that the port is taken is said now, not after minutes
        from tailwise.serve.running import bind

        bind("127.0.0.1", options.port).close()
    data_dir, model, report_dir = (options.out / name for name in ("ml-100k", "model", "report"))
    if not (data_dir / "events.parquet").is_file():
        source = sources.get("ml-100k", data_dir, report=say)
        say(f"licence: {source.licence}")
    data = load(data_dir)
    with Progress() as progress:
        engine = fit(data, holdout="last", seed=options.seed, report=progress)
        engine.save(model)
        summary(engine)
        report = measured(engine, split_last(data), seed=options.seed, most=None, progress=progress)
    show(report, report_dir, seed=options.seed)
    if options.no_serve:
        return 0
    say(f"report: {report_dir / 'report.html'}")
    # A process of its own: one that never saw torch, with the threads that serving wants.
    for variable in (name for name in os.environ if name.endswith("_NUM_THREADS")):
        os.environ[variable] = "1"
    command = [sys.executable, "-m", "tailwise.cli", "serve", str(model), "--port", str(options.port)]
    return os.execv(sys.executable, command)  # noqa: S606  our own interpreter with our own arguments


def serve_model(options: argparse.Namespace) -> int:
    """Serve until told to stop."""
    from tailwise.config import Settings, settings_of
    from tailwise.serve.logs import configure
    from tailwise.serve.running import serve
    from tailwise.serve.service import Service

    threads = Settings.from_environment().threads if "TAILWISE_THREADS" in os.environ else 1
    if (options.model is None) == (options.tenants is None):
        both = "not both" if options.model is not None else "make one with: tailwise fit DATA --out MODEL"
        raise UsageError(f"serve takes a MODEL, or --tenants DIR; {both}; see: tailwise serve --help")
    given = {name: value for name, value in vars(options).items() if name in Service.model_fields}
    given["model"] = options.model or options.tenants
    try:
        service = settings_of(Service, {**given, "threads": threads}, where="serve")
    except ConfigError as error:  # what is wrong was said on the command line
        raise UsageError(str(error)) from error
    configure(service.log_format, requests=service.log_requests)
    serve(service)
    return 0


WANTED = re.compile(r"(?P<package>[\w.-]+).*?(?:extra == ['\"](?P<extra>[\w-]+)['\"])?$")
"""A line of the package's own list of what it needs."""


def wanted() -> dict[str, list[str]]:
    """What the package says that it needs, by extra; "" is what always must be there."""
    from importlib.metadata import requires

    found: dict[str, list[str]] = {"": []}
    for line in requires("tailwise") or []:
        match = WANTED.match(line)
        if match is not None and match["extra"] != "dev":
            found.setdefault(match["extra"] or "", []).append(match["package"])
    return found


def doctor(options: argparse.Namespace) -> int:
    """What is there, what is not, and what to do about it; 1 when something that is needed is missing."""
    from importlib.metadata import PackageNotFoundError, version

    from tailwise import artifacts
    from tailwise.config import Settings
    from tailwise.errors import TailwiseError

    say(f"OK   python {platform.python_version()}, {platform.machine()}, {len(os.sched_getaffinity(0))} cores")
    settings = Settings.from_environment()
    where = ", ".join(f"{name}={os.environ[name]}" for name in sorted(os.environ) if name.endswith("_NUM_THREADS"))
    say(f"OK   threads {settings.threads} ({where}, OMP_WAIT_POLICY={os.environ.get('OMP_WAIT_POLICY')})")
    say(f"OK   cache {settings.cache} ({_size(settings.cache) / 1e6:.0f} MB; safe to delete)")
    failed = False
    for extra, packages in wanted().items():
        for package in packages:
            try:
                say(f"OK   {package} {version(package)}{f' ({extra})' if extra else ''}")
            except PackageNotFoundError:
                remedy = f"pip install 'tailwise{f'[{extra}]' if extra else ''}'"
                say(f"{'WARN' if extra else 'FAIL'} {package} is not installed: {remedy}")
                failed |= not extra
    if options.model is not None:
        try:
            manifest = artifacts.check(options.model)
            say(f"OK   {options.model} is whole: version {manifest['version']}, {len(manifest['files'])} files")
        except TailwiseError as error:
            say(f"FAIL {error}")
            failed = True
    return int(failed)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
