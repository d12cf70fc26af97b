"""Training of label trees that can be interrupted: a folder that keeps the weights of each solved node."""

from __future__ import annotations

from pathlib import Path

from evenhand.multilabel.extreme.levels import Block
from evenhand.multilabel.resuming import ResumableFolder
from evenhand.multilabel.storage import FolderError, Kind, array_entry, read_folder, write_folder

_BLOCK = Kind("evenhand checkpoint block", 1, "block.json")


class BlockStore:
    """The solved nodes of one tree.

    Parameters
    ----------
    folder : ResumableFolder
    tree : int
        The number of the tree in the training.
    """

    def __init__(self, folder: ResumableFolder, tree: int) -> None:
        self._folder, self._tree = folder, tree

    def read(self, level: int, node: int, n_children: int) -> Block | None:
        """The weights of a node's children, None where it was not solved.

        Parameters
        ----------
        level, node : int
        n_children : int
            Of the node.

        Returns
        -------
        Block or None

        Raises
        ------
        FolderError
            If they are damaged.
        """
        place = self._place(level, node)
        if not place.exists():
            return None
        state = read_folder(place, _BLOCK)
        try:
            block = Block(
                *(array_entry(state, name, [dtype], (None,)) for name, dtype in Block.ARRAYS.items())
            )
            if not block.fits(n_children):
                raise FolderError(f"the weights do not fit a node of {n_children} children")
            return block
        except FolderError as error:
            raise FolderError(f"{place}: {error}; delete {self._folder.folder} to start anew") from error

    def write(self, level: int, node: int, block: Block) -> None:
        """Keep the weights of a node's children.

        Parameters
        ----------
        level, node : int
        block : Block
        """
        write_folder(self._place(level, node), _BLOCK, {name: getattr(block, name) for name in Block.ARRAYS})

    def _place(self, level: int, node: int) -> Path:
        return self._folder.folder / f"tree-{self._tree:04d}-level-{level:02d}-node-{node:08d}"
