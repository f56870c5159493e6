"""`to_c` of the layered estimators: a door to `eqprop_fast.export`, loaded when it is used."""


class ExportMixin:
    def to_c(self, folder, dtype="float32", learn=False, name="eqnet", **options):
        """Write the fitted network as self-contained C for a small device: ``name.h``, ``name.c``.

        Parameters
        ----------
        folder : path
            Made if it is not there.
        dtype : {"float32", "int16", "int8"}
        learn : bool
            With functions that go on learning on the device.
        name : str
            A C identifier: prefix of files and symbols.
        **options
            Of `eqprop_fast.export.to_c`: ``learning_rate`` and the formats of integers.

        Returns
        -------
        header, source : Path
        """
        from ..export import to_c

        return to_c(self, folder, dtype, learn, name, **options)
