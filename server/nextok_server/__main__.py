"""`nextok-server ARTIFACT [--listen HOST:PORT] [--check]`, and `nextok-server token NAME`.

Exit codes: 0 stopped as asked, 1 the artifact or the address cannot be used, 2 wrong settings.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nextok_server import check, config, logs, token_command
from nextok_server.app import create_server
from nextok_server.errors import ArtifactError


def main() -> None:
    """Reads the settings and serves until SIGTERM or SIGINT."""
    if sys.argv[1:2] == ["token"]:
        token_command.main(sys.argv[2:])
        return
    flags = _parse_flags(sys.argv[1:])
    file, show = flags.pop("config", None), flags.pop("show_config", False)
    only_check = flags.pop("check", False)
    try:
        settings, origins = config.load(flags, file)
    except config.ConfigError as error:
        print(f"nextok-server: {error}", file=sys.stderr)
        sys.exit(2)
    if show:
        for name, value in settings.model_dump().items():
            print(f"{name} = {value}  ({origins[name]})")
        return
    logs.set_up(settings.log_level, settings.log_format, sys.stderr)
    try:
        if only_check:
            for line in check.check(settings):
                print(line, flush=True)
        else:
            asyncio.run(_serve(settings))
    except config.ConfigError as error:
        print(f"nextok-server: {error}", file=sys.stderr)
        sys.exit(2)
    except (ArtifactError, OSError) as error:
        print(f"nextok-server: {error}", file=sys.stderr)
        sys.exit(1)
    finally:
        logs.give_up_unwritten()


async def _serve(settings: config.Config) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    app = await create_server(settings)
    # What is there now stays. To look through it for garbage takes some 30 ms, in which nobody
    # would be answered.
    gc.collect()
    gc.freeze()
    for what, address, port in (
        ("listening", settings.listen, app.port),
        ("health", settings.health_listen, app.health_port),
        ("metrics", settings.metrics_listen, app.metrics_port),
    ):
        if address is not None:
            print(f"nextok: {what} on {address.rpartition(':')[0]}:{port}", flush=True)
    await stop.wait()
    await app.stop(settings.drain_seconds, settings.shutdown_delay)


def _parse_flags(arguments: list[str]) -> dict[str, Any]:
    """Flags are made from the settings' names; their values are checked there."""
    parser = argparse.ArgumentParser(
        prog="nextok-server",
        description="Serves GPT-2's probabilities over gRPC, from an artifact of nextok-export.",
        epilog="Every flag is also an environment variable NEXTOK_<NAME> and a name in the "
        "TOML file. `nextok-server token --help` tells how tokens are made. "
        "Exit codes: 0 stopped as asked, 1 artifact or address unusable, 2 wrong settings.",
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--version", action="version", version=f"nextok-server {version('nextok')}")
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file with settings")
    parser.add_argument("--show-config", action="store_true", help="print every setting and stop")
    parser.add_argument(
        "--check", action="store_true", help="prove the artifact, run one token, and stop"
    )
    for name, field in config.Config.model_fields.items():
        text = (field.description or "").replace("%", "%%")
        if name == "artifact":
            parser.add_argument("artifact", nargs="?", metavar="ARTIFACT", help=text)
        elif field.annotation is bool:
            flag = "--" + name.replace("_", "-")
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, help=text)
        else:
            parser.add_argument("--" + name.replace("_", "-"), metavar="VALUE", help=text)
    return vars(parser.parse_args(arguments))


if __name__ == "__main__":
    main()
