//! Text to answer: statements, types, planning and execution over DataFusion.
