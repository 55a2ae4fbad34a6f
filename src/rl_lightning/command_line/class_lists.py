"""The classes that a configuration can name without their module."""

from types import ModuleType


def import_classes(package: ModuleType) -> None:
    """Import the classes of a package, because jsonargparse only finds imported classes by name."""
    for name in package.__all__:
        getattr(package, name)


def list_classes(flag: str, package: ModuleType) -> str:
    """A table of the classes that `flag` describes, with what each of them is.

    Args:
        flag: Such as "--model.help".
        package: Where the classes are.
    """
    summaries = {name: getattr(package, name).__doc__.splitlines()[0] for name in package.__all__}
    lines = [f"  {name:<26}{summary}" for name, summary in sorted(summaries.items())]
    return "\n".join([f"{flag} NAME shows the options of one of these:", *lines])
