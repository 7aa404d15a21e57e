"""Training: the data set builder, training samples, synthetic samples and the training loop.

`build` finds windows of frames in films and stores them; `data` reads them and makes batches of augmented samples;
`synthetic` renders samples with exact optical flow; `train` trains a network. All of them read `config`.
"""
