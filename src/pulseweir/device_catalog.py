"""Where the device catalog lies."""

from importlib import resources
from pathlib import Path


def catalog_directory() -> Path:
    """The device catalog: inside the installed package, or of the checkout this code runs from."""
    installed = Path(str(resources.files("pulseweir"))) / "devices"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "devices"
