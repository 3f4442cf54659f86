//! What a layer computes: composed of candle's operations, or fused, with gradients of their own.
