"""The data elements that reading looks at (PS3.6); everything else in a file is passed over unread.

No name, identifier or address of a person is in the table, so none can reach a log or a result.
"""

from __future__ import annotations

from typing import Final

# How a value is decoded, whatever the VR in the file says:
#   s text, S texts, d decimal strings, i integer strings, u (US) and l (UL) unsigned integers,
#   x binary integers signed as the pixels are (US or SS), f binary floats, q sequence.
_TABLE: Final = """
00020010 s TransferSyntaxUID
00080005 S SpecificCharacterSet
00080008 S ImageType
00080016 s SOPClassUID
00080018 s SOPInstanceUID
00080020 s StudyDate
00080021 s SeriesDate
00080022 s AcquisitionDate
0008002a s AcquisitionDateTime
00080031 s SeriesTime
00080032 s AcquisitionTime
00080033 s ContentTime
00080060 s Modality
00080070 s Manufacturer
00080080 s InstitutionName
00081030 s StudyDescription
0008103e s SeriesDescription
00081090 s ManufacturerModelName
00089007 S FrameType
00089215 q DerivationCodeSequence
00100030 s PatientBirthDate
00100040 s PatientSex
00101010 s PatientAge
00101030 d PatientWeight
00180010 s ContrastBolusAgent
00180015 s BodyPartExamined
00180024 s SequenceName
00180050 d SliceThickness
00180060 d KVP
00180080 d RepetitionTime
00180081 d EchoTime
00180082 d InversionTime
00180087 d MagneticFieldStrength
00180088 d SpacingBetweenSlices
00181030 s ProtocolName
00181060 d TriggerTime
00181072 s RadiopharmaceuticalStartTime
00181074 d RadionuclideTotalDose
00181075 d RadionuclideHalfLife
00181078 s RadiopharmaceuticalStartDateTime
00181120 d GantryDetectorTilt
00181164 d ImagerPixelSpacing
00181210 S ConvolutionKernel
00181242 d ActualFrameDuration
00181314 d FlipAngle
00185100 s PatientPosition
00189073 f AcquisitionDuration
00189074 s FrameAcquisitionDateTime
00189082 f EffectiveEchoTime
00189087 f DiffusionBValue
00189112 q MRTimingAndRelatedParametersSequence
00189114 q MREchoSequence
00189117 q MRDiffusionSequence
00189118 q CardiacSynchronizationSequence
00189151 s FrameReferenceDateTime
00189153 f NominalCardiacTriggerDelayTime
00189226 q MRImageFrameTypeSequence
00189329 q CTImageFrameTypeSequence
00189751 q PETFrameTypeSequence
0020000d s StudyInstanceUID
0020000e s SeriesInstanceUID
00200011 i SeriesNumber
00200012 i AcquisitionNumber
00200013 i InstanceNumber
00200032 d ImagePositionPatient
00200037 d ImageOrientationPatient
00200052 s FrameOfReferenceUID
00200060 s Laterality
00200062 s ImageLaterality
00200100 i TemporalPositionIdentifier
00209056 s StackID
00209057 l InStackPositionNumber
00209111 q FrameContentSequence
00209113 q PlanePositionSequence
00209116 q PlaneOrientationSequence
00209128 l TemporalPositionIndex
00209157 l DimensionIndexValues
00209311 s DimensionOrganizationType
00280002 u SamplesPerPixel
00280004 s PhotometricInterpretation
00280006 u PlanarConfiguration
00280008 i NumberOfFrames
00280010 u Rows
00280011 u Columns
00280030 d PixelSpacing
00280051 S CorrectedImage
00280100 u BitsAllocated
00280101 u BitsStored
00280102 u HighBit
00280103 u PixelRepresentation
00280120 x PixelPaddingValue
00280121 x PixelPaddingRangeLimit
00280301 s BurnedInAnnotation
00281050 d WindowCenter
00281051 d WindowWidth
00281052 d RescaleIntercept
00281053 d RescaleSlope
00281054 s RescaleType
00283000 q ModalityLUTSequence
00283002 u LUTDescriptor
00283003 s LUTExplanation
00283006 u LUTData
00283010 q VOILUTSequence
00289110 q PixelMeasuresSequence
00289145 q PixelValueTransformationSequence
00409092 q ParametricMapFrameTypeSequence
00540016 q RadiopharmaceuticalInformationSequence
00541001 s Units
00541102 s DecayCorrection
00541300 d FrameReferenceTime
00541321 d DecayFactor
20500020 s PresentationLUTShape
52009229 q SharedFunctionalGroupsSequence
52009230 q PerFrameFunctionalGroupsSequence
"""

KIND: Final[dict[int, str]] = {}
KEYWORD: Final[dict[int, str]] = {}
for _line in _TABLE.split("\n"):
    if _line:
        _tag, _kind, _keyword = _line.split()
        KIND[int(_tag, 16)] = _kind
        KEYWORD[int(_tag, 16)] = _keyword

# Float Pixel Data, Double Float Pixel Data, Pixel Data (PS3.3 C.7.6.3 and C.7.6.24)
PIXEL_DATA: Final = {0x7FE00008: "float", 0x7FE00009: "double", 0x7FE00010: "integer"}
ITEM: Final = 0xFFFEE000
ITEM_END: Final = 0xFFFEE00D
SEQUENCE_END: Final = 0xFFFEE0DD
UNDEFINED: Final = 0xFFFFFFFF

IMPLICIT_LITTLE: Final = "1.2.840.10008.1.2"
EXPLICIT_LITTLE: Final = "1.2.840.10008.1.2.1"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG: Final = "1.2.840.10008.1.2.2"
