"""The bundled data set and readers for the user's files."""

from gradcore.datasets.digits import Digits as Digits, load_digits as load_digits
from gradcore.datasets.files import Table as Table, load_table as load_table
