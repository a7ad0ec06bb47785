"""Networks for R fused replicas: layers, normalisers, the builder, and what a network consists of."""

from s6lib.models.builder import Net as Net
from s6lib.models.builder import build as build
from s6lib.models.describe import count_parameters as count_parameters
from s6lib.models.describe import count_views as count_views
from s6lib.models.describe import describe_affine as describe_affine
from s6lib.models.describe import multiply_adds as multiply_adds
from s6lib.models.describe import receptive_fields as receptive_fields
from s6lib.models.describe import summary_table as summary_table
