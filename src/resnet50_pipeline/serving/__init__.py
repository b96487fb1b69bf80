"""Serves the exported model with Paddle Inference. This package imports no training code.

    predictor       classifies encoded images
    images          reads the bytes of an image from a request, which contains bytes, base64 text or a path
    pyfunc          the model class for MLflow, which classifies the images in a DataFrame
    __main__        command line that prints one line of JSON per image

MLflow stores a copy of this package with the registered model, so the model can be loaded on machines where the project
is not installed.
"""

import warnings

# On import, Paddle 3 warns if ccache is missing, although only the compilation of custom operators needs ccache.
warnings.filterwarnings("ignore", message="No ccache found", category=UserWarning)
