"""``hounsfield package``: build, verify, install and check model packages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hounsfield.usecases.package import PackageResult

app = typer.Typer(help="Build, verify, install and check model packages.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print data instead of text.")]
TrustedKey = Annotated[
    Path | None, typer.Option("--key", help="PEM public key (ed25519) that must have signed the package.")
]


@app.command()
def build(
    source: Annotated[Path, typer.Argument(help="Folder with manifest.toml, card.md, graphs/ ...; only read.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder that will hold the package folder.")],
    sign: Annotated[Path | None, typer.Option("--sign", help="PEM private key (ed25519) to sign with.")] = None,
    zip_too: Annotated[bool, typer.Option("--zip", help="Also write the package as one zip file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Build a package from a folder: check everything, compute the digests, name it last."""
    from hounsfield.usecases.package import BuildRequest, build_package

    _print("built", build_package(BuildRequest(source, output, sign, zip_too)), as_json)


@app.command()
def verify(
    path: Annotated[Path, typer.Argument(help="Package folder or zip file.")],
    key: TrustedKey = None,
    as_json: AsJson = False,
) -> None:
    """Check everything about a package; install nothing."""
    from hounsfield.usecases.package import VerifyRequest, verify_package

    _print("verified", verify_package(VerifyRequest(path, key)), as_json)


@app.command()
def install(
    path: Annotated[Path, typer.Argument(help="Package folder or zip file.")],
    key: TrustedKey = None,
    as_json: AsJson = False,
) -> None:
    """Verify a package and copy it into the store."""
    from hounsfield.usecases.package import InstallRequest, install_package

    _print("installed", install_package(InstallRequest(path, key)), as_json)


@app.command()
def check(
    path: Annotated[str, typer.Argument(help="A package folder or installed model; or a manifest.toml being written.")],
    as_json: AsJson = False,
) -> None:
    """Say what a package lacks to be trusted: evidence, licences, codes, card. A lone manifest is only checked.

    Exit code 1 means that something is lacking.
    """
    import json

    from hounsfield.packages.inventory import DIGESTS, MANIFEST
    from hounsfield.usecases.package import CheckRequest, check_manifest

    place = Path(path)
    if not (place.suffix == ".toml" or ((place / MANIFEST).is_file() and not (place / DIGESTS).exists())):
        _check_trust(path, as_json)
        return
    result = check_manifest(CheckRequest(place))
    typer.echo(json.dumps(result.as_dict(), indent=1) if as_json else f"{result.manifest.reference}: no fault found")


def _check_trust(package: str, as_json: bool) -> None:
    import json

    from hounsfield.usecases.trust import TrustRequest, check_trust

    result = check_trust(TrustRequest(package))
    if as_json:
        typer.echo(json.dumps(result.as_dict(), indent=1))
    else:
        for one in result.lacks:
            typer.echo(f"{one.about:<9} {one.fact}; {one.remedy}")
        typer.echo(f"{result.package.reference}: {len(result.lacks) or 'nothing'} lacking")
    raise typer.Exit(1 if result.lacks else 0)


@app.command()
def schema() -> None:
    """Print the JSON Schema of manifest.toml."""
    import json

    from hounsfield.packages import json_schema

    typer.echo(json.dumps(json_schema(), indent=1))


def _print(verb: str, result: PackageResult, as_json: bool) -> None:
    import json

    if as_json:
        typer.echo(json.dumps(result.as_dict(), indent=1))
        return
    package = result.package
    typer.echo(f"{verb} {package.reference}")
    typer.echo(f"  folder  {package.root}")
    if result.archive is not None:
        typer.echo(f"  zip     {result.archive}")
    typer.echo(f"  digest  {package.digest}")
    typer.echo(f"  signed  {package.signed}")
    typer.echo(f"  graphs  {', '.join(package.precisions)}; {package.size_bytes / 1e6:.1f} MB")
